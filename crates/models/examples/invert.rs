//! Inverts a picture: `cargo run --release -p swinstyle-models --example invert -- portrait.png`.

use swinstyle_data::{Picture, load_image, picture};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: invert PICTURE [MODEL]")?;
    let model = std::env::args().nth(2).unwrap_or_else(|| "assets/avatar64.safetensors".into());
    let device = Device::from_env()?;
    let model = Model::load(model, device)?;
    let (encoder, _) = model.encoder.as_ref().ok_or("the model has no encoder")?;
    let size = encoder.config.image_size;

    let source = load_image(file.as_ref(), size)?;
    let inversion = model.invert(&Tensor::from_vec(source.to_f32(), &[1, size, size, 3], device)?)?;
    let pixels = inversion.images.pool_area(size, size)?.to_vec()?;
    let reconstruction = Picture::from_f32(&pixels, size, size)?;

    picture::write_png("reconstruction.png".as_ref(), &reconstruction)?;
    let psnr = picture::psnr(&source.to_f32(), &reconstruction.to_f32())?;
    println!("W+ {:?}, {psnr:.2} dB, reconstruction.png", inversion.w_plus.shape());
    Ok(())
}
