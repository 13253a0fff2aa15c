"""What both services read of a standing setting: its model, and the moments that its rule names."""
