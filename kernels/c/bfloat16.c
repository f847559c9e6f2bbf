// What this processor has for products of bfloat16: nothing, vectors, or matrices as well.

int bfloat16_units(void) {
#if defined(__AVX512BF16__) && defined(__AMX_BF16__)
    return 2;
#elif defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}
