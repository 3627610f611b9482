"""Other people's scores to a ScoreTable."""
