"""What several rooms need and no user calls: members by name, argument checks, devices, files."""
