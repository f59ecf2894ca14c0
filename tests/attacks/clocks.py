FAMILY = 'clocks'
