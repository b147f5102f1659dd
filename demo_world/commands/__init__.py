"""What is run, in this order, to make the demo model: see the README of the demo world."""
