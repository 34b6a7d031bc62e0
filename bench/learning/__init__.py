"""What players that train or read activations share."""
