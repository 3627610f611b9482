"""One file per family of corpora: root folder in, verified Manifest out."""
