"""Transcribing recordings of any length, and writing transcripts as text and subtitles."""
