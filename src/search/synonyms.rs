//! Words that people and tool authors use for the same thing.
//!
//! One group a line, in the general vocabulary of software and services. A group is a weak hint (see
//! `Weights::synonym`), so a line may be generous but should not join what a user would keep apart.

/// Groups of words, separated by spaces.
pub(super) const GROUPS: &[&str] = &[
    // what is done
    "create add new make insert build generate compose",
    "delete remove erase drop destroy clear purge discard",
    "update edit modify change alter patch revise set adjust",
    "get fetch retrieve read obtain load lookup pull",
    "list enumerate browse show display view",
    "search find query lookup locate discover seek",
    "send deliver post dispatch transmit submit",
    "run execute start launch invoke trigger perform",
    "stop cancel abort terminate kill halt end",
    "copy duplicate clone replicate fork",
    "move rename relocate transfer",
    "download export save dump",
    "upload import attach ingest",
    "convert transform translate change render",
    "analyze analyse inspect examine evaluate assess study",
    "compare diff difference versus contrast",
    "check verify validate test confirm ensure",
    "summarize summary digest overview brief abstract",
    "schedule plan book reserve arrange appointment",
    "subscribe follow watch monitor track observe",
    "share publish release deploy distribute",
    "install setup configure provision initialize",
    "enable activate unlock allow permit grant",
    "disable deactivate lock block deny revoke suspend",
    "merge combine join concatenate unite",
    "split divide separate partition chunk",
    "extract parse scrape crawl harvest",
    "calculate compute count sum math arithmetic",
    "buy purchase order checkout acquire",
    "pay payment charge billing invoice",
    "play watch listen stream",
    "draw plot chart graph visualize diagram figure",
    "learn teach study tutor education course",
    "recommend suggest propose advise recommendation",
    "navigate open visit goto browse",
    "click press tap push",
    "type write enter input fill",
    "approve accept confirm authorize",
    "reply respond answer comment",
    "predict forecast estimate projection",
    // what it is done to
    "issue ticket bug task",
    "repository repo project codebase",
    "file document doc",
    "folder directory path",
    "image picture photo photograph screenshot",
    "video movie film clip",
    "audio sound music song track voice speech",
    "message chat text sms dm",
    "email mail inbox gmail",
    "user account member person people profile customer contact",
    "company business organization firm corporation enterprise",
    "employee staff worker hr personnel",
    "page website site webpage url web link",
    "database db sql table schema",
    "record row entry item",
    "property field attribute column",
    "price cost quote rate fee value",
    "stock share equity ticker security",
    "crypto cryptocurrency bitcoin coin token",
    "weather temperature climate rain",
    "location place address geocode coordinate map",
    "route direction navigation path distance",
    "flight airline plane airport airfare",
    "hotel accommodation lodging stay room",
    "restaurant food meal dining recipe",
    "job career vacancy employment position",
    "news headline article story press",
    "paper publication literature research academic scholar",
    "calendar event meeting appointment agenda",
    "todo task reminder checklist",
    "note memo memory remember",
    "log history trace audit activity",
    "error failure exception crash bug fault",
    "metric statistic stat analytics measure performance",
    "secret password credential token key",
    "container docker pod image",
    "server host machine instance vm",
    "health status state condition",
    "setting configuration config preference option",
    "version release revision tag",
    "package library dependency module",
    "size large length big",
    "current now today live latest recent",
    "detail info information metadata describe description",
    "shop store product merchandise catalog",
    "trend popular trending hot top",
    "review rating feedback opinion",
    "game play player match",
    "sport team league football soccer",
    "doctor medical health medicine clinical patient",
    "law legal court attorney regulation",
    "house home property estate apartment rent",
    "car vehicle automobile auto",
];

#[cfg(test)]
mod tests {
    use super::GROUPS;

    #[test]
    fn a_group_has_several_words_and_no_word_twice() {
        for group in GROUPS {
            let mut words: Vec<_> = group.split(' ').collect();
            let count = words.len();
            words.sort_unstable();
            words.dedup();
            assert!(count > 1 && words.len() == count, "{group}");
            assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())), "{group}");
        }
    }
}
