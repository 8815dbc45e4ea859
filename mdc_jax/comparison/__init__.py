"""Several objectives on equal terms: what is trained, in which order, and the files that it leaves behind."""
