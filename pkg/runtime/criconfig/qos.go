package criconfig
