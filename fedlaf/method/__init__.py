"""What the pipeline hands to a method and what it gets back."""
