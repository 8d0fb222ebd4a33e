"""What params.yaml asks for: its validation, the artefacts that follow, the steps that make them, the command line."""
