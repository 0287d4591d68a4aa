//! The numbers that ranking turns on. They were chosen by measuring on public tool catalogues; most are flat near
//! their value, so a change should be measured on several catalogues or left alone.

/// Fields of a tool's text, in the order of [`Weights::fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    /// The tool's name and title.
    Name,
    /// The name of its server.
    Server,
    Description,
    /// Names of parameters.
    Parameter,
    /// Descriptions of parameters.
    ParameterText,
    /// The server's title and instructions.
    ServerText,
}

/// How many fields there are.
pub(super) const FIELDS: usize = 6;

/// How a field counts in BM25F.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldWeight {
    /// What one occurrence is worth.
    pub(super) weight: f32,
    /// `b`: how much a field longer than the average is held against its words, 0 to 1.
    pub(super) length: f32,
}

/// All numbers of the ranking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) fields: [FieldWeight; FIELDS],
    /// BM25's `k1`: how soon more occurrences stop to count.
    pub(super) saturation: f32,
    /// Weight of another way to write a word (`repo`), as a share of the word's own.
    pub(super) short_form: f32,
    /// Weight of a word's synonym.
    pub(super) synonym: f32,
    /// How much of a word its synonym covers, when it is asked whether a tool serves the query.
    pub(super) synonym_covers: f32,
    /// Weight of a term that only begins like the word, or that the word may be misspelt for.
    pub(super) resemblance: f32,
    /// What a second term for the same word still adds.
    pub(super) again: f32,
    /// How much a number says about whether a tool serves the query: it is mostly a value to call with.
    pub(super) number: f32,
    /// How much a tool gains whose whole name is in the query.
    pub(super) name_coverage: f32,
    /// How much a tool gains that speaks of the whole query.
    pub(super) query_coverage: f32,
    /// Share of the mean score of a server's tools that each of them gains.
    pub(super) siblings: f32,
    /// What a tool must score to be a match, as a share of the best one's score.
    pub(super) relative_floor: f32,
    /// What the best tool must cover of a query of `n` words, else there is no answer: the share
    /// `floor / n ^ floor_power`, and no more than `most_floor`.
    pub(super) floor: f32,
    pub(super) floor_power: f32,
    pub(super) most_floor: f32,
}

impl Weights {
    pub(super) const STANDARD: Self = Self {
        fields: [
            FieldWeight { weight: 2.0, length: 0.3 },
            FieldWeight { weight: 2.5, length: 0.2 },
            FieldWeight { weight: 1.0, length: 0.6 },
            FieldWeight { weight: 0.4, length: 0.5 },
            FieldWeight { weight: 0.3, length: 0.6 },
            FieldWeight { weight: 0.4, length: 0.7 },
        ],
        saturation: 1.0,
        short_form: 0.8,
        synonym: 0.35,
        synonym_covers: 0.75,
        resemblance: 0.6,
        again: 0.5,
        number: 0.3,
        name_coverage: 0.4,
        query_coverage: 0.3,
        siblings: 0.2,
        relative_floor: 0.15,
        floor: 2.1,
        floor_power: 1.4,
        most_floor: 0.45,
    };
}
