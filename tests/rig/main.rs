//! The rig proves itself: the worlds are isolated and vanish, the box does what its log says and nothing else, the actors
//! behave as they are named. What the agent's tests take for truth is checked here against a second witness.

mod actors;
mod attached;
mod frames;
mod impairment;
mod program;
mod worlds;
