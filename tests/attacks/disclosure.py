FAMILY = 'disclosure'
