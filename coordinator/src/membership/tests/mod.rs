mod detection;
mod net;
mod rejoin;
