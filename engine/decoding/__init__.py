"""From an encoded batch to tokens: plain greedy decoding, and the same result by drafts."""
