"""A comparison as one HTML page, with drawings, rollouts side by side and predicted futures."""
