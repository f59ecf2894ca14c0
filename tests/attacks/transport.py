FAMILY = 'transport'
