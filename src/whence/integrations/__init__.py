"""The training loops people already have: ``transformers``, ``lightning``, ``texts``. Nothing is imported until asked for."""
