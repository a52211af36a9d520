//! A minimal client of the RFB protocol (RFC 6143, version 3.3): fetches pictures of the screen that Bochs serves.

use crate::failure::Failure;
use crate::picture::Picture;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const NO_AUTHENTICATION: u32 = 1;
const FRAMEBUFFER_UPDATE: u8 = 0;
const BELL: u8 = 2;
const CUT_TEXT: u8 = 3;
const RAW_ENCODING: i32 = 0;
/// The pseudo-encoding that announces another size of the screen (RFC 6143, §7.8.2).
const DESKTOP_SIZE: i32 = -223;
/// Bochs sends a screen in tiles, some of them late: the picture is taken once none has come for this long.
const QUIET_TIME: Duration = Duration::from_millis(700);

/// One byte a pixel, as Bochs serves it: how many values each colour has, and where its bits lie.
#[derive(Debug, Clone, Copy)]
struct PixelFormat {
    bits: u8,
    maxima: [u16; 3],
    shifts: [u8; 3],
}

impl PixelFormat {
    fn colour(self, pixel: u8) -> [u8; 3] {
        std::array::from_fn(|index| {
            let maximum = u32::from(self.maxima[index]).max(1);
            let value = u32::from(pixel).checked_shr(u32::from(self.shifts[index])).unwrap_or(0) & maximum;
            u8::try_from(value * 255 / maximum).unwrap_or(255)
        })
    }
}

pub struct Rfb {
    stream: TcpStream,
    format: PixelFormat,
    picture: Picture,
}

impl Rfb {
    pub fn connect(port: u16) -> Result<Rfb, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut rfb = Rfb {
            stream,
            format: PixelFormat { bits: 8, maxima: [7, 7, 3], shifts: [0, 3, 6] },
            picture: Picture { width: 0, height: 0, pixels: Vec::new() },
        };
        rfb.greet()?;
        Ok(rfb)
    }

    fn greet(&mut self) -> Result<(), Failure> {
        self.read::<12>()?;
        self.stream.write_all(b"RFB 003.003\n")?;
        if u32::from_be_bytes(self.read()?) != NO_AUTHENTICATION {
            return Err(Failure::new("Bochs' screen server wants a password"));
        }
        self.stream.write_all(&[1])?; // others may look too
        let (width, height) = (self.read_u16()?, self.read_u16()?);
        self.resize(width, height);
        let format: [u8; 16] = self.read()?;
        let big_endian_u16 = |at: usize| u16::from_be_bytes([format[at], format[at + 1]]);
        self.format = PixelFormat {
            bits: format[0],
            maxima: [big_endian_u16(4), big_endian_u16(6), big_endian_u16(8)],
            shifts: [format[10], format[11], format[12]],
        };
        let name_bytes = u32::from_be_bytes(self.read()?);
        self.skip(name_bytes as usize)?;
        if self.format.bits != 8 {
            return Err(Failure::new(format!("Bochs' screen has {} bits a pixel instead of 8", self.format.bits)));
        }
        // SetEncodings: raw pixels, and news of the screen's size.
        let mut message = vec![2, 0, 0, 2];
        message.extend(RAW_ENCODING.to_be_bytes());
        message.extend(DESKTOP_SIZE.to_be_bytes());
        self.stream.write_all(&message)?;
        Ok(())
    }

    /// Asks for the whole screen, and takes what comes until no more does.
    pub fn picture(&mut self) -> Result<Picture, Failure> {
        self.request(false)?;
        let started = Instant::now();
        self.stream.set_read_timeout(Some(QUIET_TIME))?;
        while started.elapsed() < Duration::from_secs(10) {
            let mut kind = [0];
            match self.stream.read(&mut kind) {
                Ok(0) => return Err(Failure::new("Bochs has ended")),
                Ok(_) => {}
                Err(_) => break,
            }
            self.message(kind[0])?;
            self.request(true)?;
        }
        Ok(self.picture.clone())
    }

    /// FramebufferUpdateRequest for the whole screen; an incremental one is answered when something changes.
    fn request(&mut self, incremental: bool) -> Result<(), Failure> {
        let side = |pixels: usize| u16::try_from(pixels).unwrap_or(u16::MAX).to_be_bytes();
        let mut message = vec![3, u8::from(incremental), 0, 0, 0, 0];
        message.extend(side(self.picture.width));
        message.extend(side(self.picture.height));
        self.stream.write_all(&message)?;
        Ok(())
    }

    fn message(&mut self, kind: u8) -> Result<(), Failure> {
        match kind {
            FRAMEBUFFER_UPDATE => {
                self.skip(1)?;
                for _ in 0..self.read_u16()? {
                    self.rectangle()?;
                }
            }
            BELL => {}
            CUT_TEXT => {
                self.skip(3)?;
                let length = u32::from_be_bytes(self.read()?);
                self.skip(length as usize)?;
            }
            _ => return Err(Failure::new(format!("an RFB message of unknown kind {kind}"))),
        }
        Ok(())
    }

    fn rectangle(&mut self) -> Result<(), Failure> {
        let (x, y) = (self.read_u16()?, self.read_u16()?);
        let (width, height) = (self.read_u16()?, self.read_u16()?);
        match i32::from_be_bytes(self.read()?) {
            DESKTOP_SIZE => self.resize(width, height),
            RAW_ENCODING => {
                let mut row = vec![0; width];
                for line in y..y + height {
                    self.stream.read_exact(&mut row)?;
                    for (column, &pixel) in (x..).zip(&row) {
                        let at = line * self.picture.width + column;
                        if column < self.picture.width
                            && let Some(place) = self.picture.pixels.get_mut(at)
                        {
                            *place = self.format.colour(pixel);
                        }
                    }
                }
            }
            other => return Err(Failure::new(format!("RFB encoding {other}, which wasn't asked for"))),
        }
        Ok(())
    }

    fn resize(&mut self, width: usize, height: usize) {
        self.picture = Picture { width, height, pixels: vec![[0; 3]; width * height] };
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_u16(&mut self) -> Result<usize, Failure> {
        Ok(usize::from(u16::from_be_bytes(self.read()?)))
    }

    fn skip(&mut self, count: usize) -> Result<(), Failure> {
        std::io::copy(&mut (&self.stream).take(count as u64), &mut std::io::sink())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_one_byte_spread_over_the_whole_range_of_each_colour() {
        let format = PixelFormat { bits: 8, maxima: [7, 7, 3], shifts: [0, 3, 6] };
        assert_eq!(format.colour(0), [0, 0, 0]);
        assert_eq!(format.colour(0xff), [255, 255, 255]);
        assert_eq!(format.colour(0b01_000_111), [255, 0, 85]);
    }
}
