mod detection;
mod helpers;
mod hostile;
mod lives;
mod merge;
mod net;
mod rejoin;
mod streams;
