//! Static rules: faults of Apple's delegates that nothing on another machine
//! shows.
