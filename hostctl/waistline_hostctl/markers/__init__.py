"""What makes markers: a line of the machine's own pins, and a load that can be told in a trace."""
