"""Policy files: YAML with positions, checked documents, the checked form kept sealed, and the `Policy` made of it."""
