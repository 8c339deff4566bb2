mod detection;
mod helpers;
mod hostile;
mod merge;
mod net;
mod rejoin;
mod streams;
