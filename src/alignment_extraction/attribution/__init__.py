"""What training caused: members against rows that a coin kept from the model."""
