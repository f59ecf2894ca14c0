FAMILY = 'equivocation'
