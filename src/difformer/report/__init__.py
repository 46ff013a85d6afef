"""From a saved run to pictures: trace, figures, page."""
