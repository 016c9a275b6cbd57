//! epoll, signalfd, timerfd.
