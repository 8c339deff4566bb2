mod detection;
mod hostile;
mod net;
mod rejoin;
