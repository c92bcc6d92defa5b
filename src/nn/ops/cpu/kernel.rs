//! The macro that compiles a kernel twice, plain and for AVX2 with FMA, and picks one when it is called.
//! A kernel's body sees the const `FMA`: without the instruction `f32::mul_add` is a slow library call, so
//! bodies multiply and add through `math::fma::<FMA>`.

/// Defines `fn name(..)` from `fn name<const FMA: bool>(..)`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<const $fma:ident: bool>($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn body<const $fma: bool>($($argument: $kind),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($argument: $kind),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                    // SAFETY: both features were detected on the line above.
                    return unsafe { wide($($argument),*) };
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($argument),*)
        }
    };
}

pub(super) use kernel;
