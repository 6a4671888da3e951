"""What is decided before the first step: the data read and divided, the network, tile and samples that suit them."""
