/* The child that every supervisor keeps: it rings at once, then answers HTTP on a port if it has one.

   child FIFO NAME [PORT], or without arguments: they are the words of the file `ring` in its folder (for supervisors
   that give a program no arguments). It rings by a line "NAME PID NANOSECONDS", the monotonic clock at its first
   instruction. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

static void serve(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[4096];
    int on = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 64)) exit(1);
    for (;;) {
        int caller = accept(door, NULL, NULL);
        if (caller < 0) continue;
        if (read(caller, request, sizeof request) > 0) (void)!write(caller, ANSWER, sizeof ANSWER - 1);
        close(caller);
    }
}

int main(int argc, char **argv) {
    struct timespec now;
    static char fifo[4096], name[256];
    int port = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    signal(SIGPIPE, SIG_IGN);
    if (argc > 2) {
        snprintf(fifo, sizeof fifo, "%s", argv[1]);
        snprintf(name, sizeof name, "%s", argv[2]);
        port = argc > 3 ? atoi(argv[3]) : 0;
    } else {
        FILE *file = fopen("ring", "r");
        if (!file || fscanf(file, "%4095s %255s %d", fifo, name, &port) < 2) return 2;
        fclose(file);
    }
    int bell = open(fifo, O_WRONLY | O_CLOEXEC);
    if (bell < 0 || dprintf(bell, "%s %d %lld\n", name, getpid(), now.tv_sec * 1000000000LL + now.tv_nsec) < 0) return 3;
    close(bell);
    if (port) serve(port);
    for (;;) pause();
}
