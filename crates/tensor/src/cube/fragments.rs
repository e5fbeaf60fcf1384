//! Products on matrix units: planes multiply fragments of 16×16×16 in f16 or bf16 with f32 sums, from tiles in shared memory.
//!
//! Tiles are double-buffered by their users: while planes multiply one step's tiles, the next step's vectors are on their way from global
//! memory to registers, and one barrier a step is enough. All global memory moves in vectors of eight halves, 128 bits.

// `#[cube]` generates public items beside each function that cannot carry documentation.
#![allow(missing_docs)]

use cubecl::{
    cmma,
    features::{MmaConfig, Plane},
    ir::{ElemType, FloatKind},
    prelude::*,
};
use serde::{Deserialize, Serialize};

/// Edge of a fragment, in elements.
pub const EDGE: usize = 16;
/// Halves of one load, and the padding of a tile's rows: neighbouring rows then begin in other banks.
pub const WIDTH: usize = 8;
/// Units of a plane.
pub const PLANE: usize = 32;

/// What a device multiplies of a type, with f32 sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatrixUnits {
    /// Fragments of 16×16×16, by planes of 32 units that can wait for each other.
    pub fragments: bool,
    /// Registers that `ldmatrix` fills, too.
    pub ldmatrix: bool,
}

impl MatrixUnits {
    /// What a client's device has.
    pub fn of<R: Runtime>(client: &ComputeClient<R>, dtype: StorageType) -> Self {
        let (hardware, features) = (&client.properties().hardware, &client.properties().features);
        let (matmul, sum) = (&features.matmul, StorageType::Scalar(ElemType::Float(FloatKind::F32)));
        let of = |[m, n, k]: [u32; 3]| MmaConfig { a_type: dtype, b_type: dtype, cd_type: sum, m, n, k };
        let planes_of_32 = (hardware.plane_size_min, hardware.plane_size_max) == (32, 32);
        let waits = planes_of_32 && features.plane.contains(Plane::Sync);
        let fragments = waits && matmul.cmma.contains(&of([16, 16, 16]));
        let registers = matmul.ldmatrix.contains(&dtype) && matmul.mma.contains(&of([16, 8, 16]));
        Self { fragments, ldmatrix: fragments && registers }
    }
}

/// Work of a cube whose planes multiply fragments to a tile of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatrixTile {
    /// Planes of a cube along the rows.
    pub planes_down: usize,
    /// Planes of a cube along the columns.
    pub planes_across: usize,
    /// Fragments of a plane along the rows.
    pub rows: usize,
    /// Fragments of a plane along the columns.
    pub columns: usize,
    /// Summed positions of a step.
    pub depth: usize,
    /// Whether units fill their registers by `ldmatrix` and multiply them by `mma.m16n8k16`, instead of whole fragments: NVRTC loads fragments
    /// of bf16 from shared memory by generic loads of 32 bits.
    pub ldmatrix: bool,
}

/// Cubes that keep every multiprocessor of a large device busy.
const BUSY_CUBES: usize = 132;

impl MatrixTile {
    /// A tile of 32 summed positions.
    pub const fn new(planes: [usize; 2], fragments: [usize; 2]) -> Self {
        let ([planes_down, planes_across], [rows, columns]) = (planes, fragments);
        Self { planes_down, planes_across, rows, columns, depth: 32, ldmatrix: false }
    }

    /// The largest of four tiles of which a matrix of so many rows and columns, `times` over, makes enough cubes.
    pub fn fitting(rows: usize, columns: usize, times: usize, ldmatrix: bool) -> Self {
        let all = [
            Self::new([2, 4], [4, 2]),
            Self::new([4, 2], [2, 2]),
            Self::new([2, 2], [2, 2]),
            Self::new([2, 1], [1, 2]),
        ];
        let cubes = |t: &Self| times * rows.div_ceil(t.tile_rows()) * columns.div_ceil(t.tile_columns());
        // A tile that is mostly beyond the matrix keeps its planes busy with zeros.
        let filled = |t: &Self| 2 * columns > t.tile_columns() && 2 * rows > t.tile_rows();
        let tile = all.into_iter().find(|t| filled(t) && cubes(t) >= BUSY_CUBES).unwrap_or(all[3]);
        Self { ldmatrix, ..tile }
    }

    /// Planes of a cube.
    pub fn planes(&self) -> usize {
        self.planes_down * self.planes_across
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.planes() * PLANE
    }

    /// Rows of a cube's tile.
    pub fn tile_rows(&self) -> usize {
        self.planes_down * self.rows * EDGE
    }

    /// Columns of a cube's tile.
    pub fn tile_columns(&self) -> usize {
        self.planes_across * self.columns * EDGE
    }

    /// The left operand in shared memory; `turned`, its rows are the summed positions instead of those of the sums.
    pub fn left(&self, turned: bool) -> Operand {
        Operand::new(self.tile_rows(), self.depth, turned)
    }

    /// The right operand in shared memory; `turned`, its rows are the columns of the sums instead of the summed positions.
    pub fn right(&self, turned: bool) -> Operand {
        Operand::new(self.tile_columns(), self.depth, !turned)
    }

    /// Bytes of shared memory, at most of all ways to store the operands: two buffers of both, and a fragment of sums a plane.
    pub fn shared_memory(&self) -> usize {
        let largest = |of: fn(&Self, bool) -> Operand| of(self, false).vectors().max(of(self, true).vectors());
        2 * (largest(Self::left) + largest(Self::right)) * WIDTH * 2 + self.planes() * EDGE * EDGE * size_of::<f32>()
    }

    /// Whether every unit has the same number of vectors to load, and a plane's sums fit its registers.
    pub fn is_even(&self) -> bool {
        let shared_out = |extent: usize| (extent * self.depth / WIDTH).is_multiple_of(self.units());
        shared_out(self.tile_rows()) && shared_out(self.tile_columns()) && self.rows * self.columns <= 8
    }
}

/// How one operand of a step lies in shared memory: in rows of whole vectors, with a vector of padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Rows.
    pub rows: usize,
    /// Vectors of a row, without its padding.
    pub line: usize,
    /// Whether the rows are the summed positions.
    pub by_depth: bool,
}

impl Operand {
    fn new(extent: usize, depth: usize, by_depth: bool) -> Self {
        match by_depth {
            true => Self { rows: depth, line: extent / WIDTH, by_depth },
            false => Self { rows: extent, line: depth / WIDTH, by_depth },
        }
    }

    /// Vectors from one row to the next.
    pub fn pitch(&self) -> usize {
        self.line + 1
    }

    /// Vectors of a buffer.
    pub fn vectors(&self) -> usize {
        self.rows * self.pitch()
    }

    /// Vectors from one fragment to the next along the rows or columns of the sums.
    pub fn across(&self) -> usize {
        if self.by_depth { EDGE / WIDTH } else { EDGE * self.pitch() }
    }

    /// Vectors from one fragment to the next along the summed positions.
    pub fn along(&self) -> usize {
        if self.by_depth { EDGE * self.pitch() } else { EDGE / WIDTH }
    }
}

/// Two elements: a register of a half type.
pub type Two = Const<2>;

/// A factor of products of 16×16: a fragment, or with `ldmatrix` this unit's four registers of it.
#[derive(CubeType)]
pub struct Factor<F: Float> {
    fragments: Sequence<cmma::Matrix<F>>,
    registers: Sequence<Array<Vector<F, Two>>>,
}

/// 16×16 sums: a fragment, or with `ldmatrix` the registers of its left and its right half, each this unit's two neighbours of row `lane / 4`
/// and of the row eight below.
#[derive(CubeType)]
pub struct Product {
    fragments: Sequence<cmma::Matrix<f32>>,
    registers: Sequence<Array<Vector<f32, Two>>>,
}

/// Sums of zero.
#[cube]
pub fn zero(#[comptime] ldmatrix: bool) -> Product {
    let mut fragments = Sequence::<cmma::Matrix<f32>>::new();
    let mut registers = Sequence::<Array<Vector<f32, Two>>>::new();
    if ldmatrix {
        #[unroll]
        for _ in 0..2 {
            let mut half = Array::<Vector<f32, Two>>::new(2usize);
            half[0] = Vector::new(0.0f32);
            half[1] = Vector::new(0.0f32);
            registers.push(half);
        }
    } else {
        fragments.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            EDGE,
            EDGE,
            EDGE,
            cmma::MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    Product { fragments, registers }
}

/// The left factor that begins at vector `at` of a tile whose rows are `pitch` vectors apart. They are the rows of the product, or, `by_depth`,
/// the summed positions.
#[cube]
pub fn left_factor<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    at: usize,
    #[comptime] pitch: usize,
    #[comptime] by_depth: bool,
    #[comptime] ldmatrix: bool,
) -> Factor<F> {
    let mut fragments = Sequence::<cmma::Matrix<F>>::new();
    let mut registers = Sequence::<Array<Vector<F, Two>>>::new();
    if ldmatrix {
        registers.push(load_registers::<F, N>(tile, at, pitch, by_depth, by_depth));
    } else {
        let layout = comptime!(if by_depth { cmma::MatrixLayout::ColMajor } else { cmma::MatrixLayout::RowMajor });
        fragments.push(load_fragment::<F, N>(tile, at, pitch, cmma::MatrixIdent::A, comptime!(layout)));
    }
    Factor::<F> { fragments, registers }
}

/// The right factor. The tile's rows are the columns of the product, or, `by_depth`, the summed positions.
#[cube]
pub fn right_factor<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    at: usize,
    #[comptime] pitch: usize,
    #[comptime] by_depth: bool,
    #[comptime] ldmatrix: bool,
) -> Factor<F> {
    let mut fragments = Sequence::<cmma::Matrix<F>>::new();
    let mut registers = Sequence::<Array<Vector<F, Two>>>::new();
    if ldmatrix {
        let both = load_registers::<F, N>(tile, at, pitch, comptime!(!by_depth), by_depth);
        #[unroll]
        for half in 0..2usize {
            let mut columns = Array::<Vector<F, Two>>::new(2usize);
            columns[0] = both[comptime!(2 * half)];
            columns[1] = both[comptime!(2 * half + 1)];
            registers.push(columns);
        }
    } else {
        let layout = comptime!(if by_depth { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor });
        fragments.push(load_fragment::<F, N>(tile, at, pitch, cmma::MatrixIdent::B, comptime!(layout)));
    }
    Factor::<F> { fragments, registers }
}

#[cube]
fn load_fragment<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    at: usize,
    #[comptime] pitch: usize,
    #[comptime] ident: cmma::MatrixIdent,
    #[comptime] layout: cmma::MatrixLayout,
) -> cmma::Matrix<F> {
    // SAFETY: it is loaded at once.
    let fragment = unsafe { cmma::Matrix::<F>::uninitialized(comptime!(ident), EDGE, EDGE, EDGE, comptime!(layout)) };
    cmma::load(&fragment, &tile.slice(at, at + comptime!(EDGE * pitch)), comptime!((pitch * WIDTH) as u32));
    fragment
}

/// The four 8×8 matrices of a factor, a register each: `ldmatrix`, to which lane i gives the i-th of 32 rows.
///
/// Matrices are numbered down the tile's rows first, or, `turned`, along them. With `transposed` each is transposed.
#[cube]
fn load_registers<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    at: usize,
    #[comptime] pitch: usize,
    #[comptime] turned: bool,
    #[comptime] transposed: bool,
) -> Array<Vector<F, Two>> {
    let lane = UNIT_POS as usize % PLANE;
    let mut from = at;
    if turned {
        from += (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2;
    } else {
        from += lane % 16 * pitch + lane / 16;
    }
    let mma = cmma::MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    mma.load_matrix::<Vector<F, N>, Two>(&tile.slice(from, from + 1), cmma::MatrixIdent::A, 4usize, transposed)
}

/// Adds the product of two factors.
#[cube]
pub fn add_product<F: Float>(left: &Factor<F>, right: &Factor<F>, sum: &mut Product, #[comptime] ldmatrix: bool) {
    if ldmatrix {
        let mma = cmma::MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
        #[unroll]
        for half in 0..2usize {
            mma.execute_inplace(
                left.registers.index(0usize),
                right.registers.index(half),
                sum.registers.index_mut(half),
            );
        }
    } else {
        let sum = sum.fragments.index(0usize);
        cmma::execute::<F, F, f32, f32>(left.fragments.index(0usize), right.fragments.index(0usize), sum, sum);
    }
}

/// Writes sums in rows that are `pitch` vectors apart.
#[cube]
pub fn write_product<N: Size>(
    sum: &Product,
    memory: &mut SharedMemory<Vector<f32, N>>,
    to: usize,
    #[comptime] pitch: usize,
    #[comptime] ldmatrix: bool,
) {
    if ldmatrix {
        // Two neighbours at a time, of which a vector holds four.
        let lane = UNIT_POS as usize % PLANE;
        let mut pairs = memory.to_slice_mut().with_vector_size::<Two>();
        let first = (to + lane / 4 * pitch) * comptime!(WIDTH / 2) + lane % 4;
        #[unroll]
        for half in 0..2usize {
            let registers = sum.registers.index(half);
            pairs[first + comptime!(half * WIDTH / 2)] = registers[0];
            pairs[first + comptime!((8 * pitch + half) * WIDTH / 2)] = registers[1];
        }
    } else {
        cmma::store(
            &mut memory.slice_mut(to, to + comptime!(EDGE * pitch)),
            sum.fragments.index(0usize),
            comptime!((pitch * WIDTH) as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }
}

/// A plane's sums: its tile's `rows` by `columns` products, zero.
#[cube]
pub fn zeros(#[comptime] b: MatrixTile) -> Sequence<Product> {
    let mut sums = Sequence::<Product>::new();
    #[unroll]
    for _ in 0..comptime!(b.rows * b.columns) {
        sums.push(zero(b.ldmatrix));
    }
    sums
}

/// Adds the product of a step's tiles to a plane's sums. `left` and `right` are the vectors where the plane's rows and columns begin.
#[cube]
pub fn multiply<F: Float, N: Size>(
    left_tile: &SharedMemory<Vector<F, N>>,
    right_tile: &SharedMemory<Vector<F, N>>,
    left: usize,
    right: usize,
    sums: &mut Sequence<Product>,
    #[comptime] b: MatrixTile,
    #[comptime] l: Operand,
    #[comptime] r: Operand,
) {
    #[unroll]
    for k in 0..comptime!(b.depth / EDGE) {
        let mut rows = Sequence::<Factor<F>>::new();
        #[unroll]
        for row in 0..b.rows {
            let at = left + comptime!(row * l.across() + k * l.along());
            rows.push(left_factor::<F, N>(left_tile, at, comptime!(l.pitch()), l.by_depth, b.ldmatrix));
        }
        #[unroll]
        for column in 0..b.columns {
            let at = right + comptime!(column * r.across() + k * r.along());
            let factor = right_factor::<F, N>(right_tile, at, comptime!(r.pitch()), r.by_depth, b.ldmatrix);
            #[unroll]
            for row in 0..b.rows {
                let sum = sums.index_mut(comptime!(row * b.columns + column));
                add_product::<F>(rows.index(row), &factor, sum, b.ldmatrix);
            }
        }
    }
}

/// Room in shared memory for the sums of one product a plane.
#[cube]
pub fn patches<N: Size>(#[comptime] b: MatrixTile) -> SharedMemory<Vector<f32, N>> {
    SharedMemory::<Vector<f32, N>>::new(comptime!(b.planes() * PLANE))
}

/// Sums through the plane's patch: the vector of this unit, which is half `lane % 2` of row `lane / 2`.
#[cube]
pub fn spread<N: Size>(
    sum: &Product,
    patches: &mut SharedMemory<Vector<f32, N>>,
    plane: usize,
    lane: usize,
    #[comptime] b: MatrixTile,
) -> Vector<f32, N> {
    let start = plane * PLANE;
    // The vectors of the product before have been read.
    sync_plane();
    write_product::<N>(sum, patches, start, comptime!(EDGE / WIDTH), b.ldmatrix);
    sync_plane();
    patches[start + lane]
}
