module fluxbilling/embedded/images/suspended-page

go 1.26.0
