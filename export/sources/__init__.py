"""Where a captioner comes from: one module per kind of checkpoint, all behind `base.Source`."""
