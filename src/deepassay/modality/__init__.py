"""File to Views for faces and voices; free of torch."""
