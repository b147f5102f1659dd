"""The study: does the method do on a trained model what the paper says? See run.py."""
