module fluxbilling/embedded/toolchain/coredns

go 1.26.8
