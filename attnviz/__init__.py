"""attnviz: the global query-key explorer of transformer attention."""
