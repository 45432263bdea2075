/* AdamW (Loshchilov and Hutter: "Decoupled weight decay regularization", 2019) on a flat buffer.
 *
 *     p (1 - rate decay) - rate (m' / (1 - beta1^t)) / (sqrt(v' / (1 - beta2^t)) + epsilon)
 *     m' = beta1 m + (1 - beta1) g,  v' = beta2 v + (1 - beta2) g^2,  g = scale gradient
 *
 * 1 - beta^t is taken as -expm1(t log beta): the difference would lose the digits of beta.  Where gate is 0 nothing changes,
 * whatever the gradient is.  May overwrite p, m and v. */
kernel void adamw(global float *new_p, global float *new_m, global float *new_v,
                  global const float *p, global const float *m, global const float *v,
                  global const float *restrict gradient, global const float *restrict rate,
                  global const float *restrict scale, global const float *restrict t,
                  global const float *restrict gate, ulong count, float beta1, float rest1,
                  float log_beta1, float beta2, float rest2, float log_beta2, float epsilon,
                  float decay)
{
    bool moves = *gate != 0.0f;
    float factor = *scale, keep = 1.0f - *rate * decay;
    float step = *rate / -expm1(*t * log_beta1), correction = 1.0f / sqrt(-expm1(*t * log_beta2));
    for (ulong begin = get_global_id(0) * FLAT_CHUNK; begin < count;
         begin += get_global_size(0) * FLAT_CHUNK) {
        ulong end = min(begin + FLAT_CHUNK, count);
        for (ulong i = begin; i < end; i += FLOAT_WIDTH) {
            floatv old_p = load_row(p, i, count, 0.0f), old_m = load_row(m, i, count, 0.0f);
            floatv old_v = load_row(v, i, count, 0.0f),
                   g = load_row(gradient, i, count, 0.0f) * factor;
            floatv m1 = beta1 * old_m + rest1 * g, v1 = beta2 * old_v + rest2 * g * g;
            floatv p1 = old_p * keep - step * m1 / (sqrt(v1) * correction + epsilon);
            store_row(moves ? p1 : old_p, new_p, i, count);
            store_row(moves ? m1 : old_m, new_m, i, count);
            store_row(moves ? v1 : old_v, new_v, i, count);
        }
    }
}
