"""Pure maths on tensors: what a loss is, in totals and counts. Knows no model, no reward, no sampling."""
