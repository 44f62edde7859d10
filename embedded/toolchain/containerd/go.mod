module fluxbilling/embedded/toolchain/containerd

go 1.26.8
