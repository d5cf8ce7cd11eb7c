// All kernels, as one module.
#include "attention.cu"
#include "depthwise.cu"
#include "linear.cu"
#include "norm.cu"
#include "pointwise.cu"
#include "probe.cu"
