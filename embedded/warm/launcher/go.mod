module fluxbilling/embedded/warm/launcher

go 1.26.0
