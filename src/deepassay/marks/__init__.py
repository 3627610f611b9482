"""Marks of synthetic content (GB 45438-2025 metadata, C2PA): find, parse, validate; never remove."""
