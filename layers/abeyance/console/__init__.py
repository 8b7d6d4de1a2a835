"""What people have to look at rather than read, in a browser."""
