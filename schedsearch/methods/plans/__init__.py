"""Plans: at every solver step all blocks, a prefix and a cached residual, or an exit."""
