module fluxbilling/embedded/images/pause

go 1.26.0
