/* A library without any symbol that the loader looks for; also what stands for the driver, and what needs it. */
int fake_driver_nothing(void);

int fake_driver_nothing(void)
{
    return 0;
}
