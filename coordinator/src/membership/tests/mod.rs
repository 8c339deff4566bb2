mod detection;
mod hostile;
mod merge;
mod net;
mod rejoin;
