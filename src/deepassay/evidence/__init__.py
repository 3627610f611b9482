"""Protocol, assessment, checks, log and dossier for one editing tool."""
