"""What a person in front of the terminal sees, and how the machine is used."""
